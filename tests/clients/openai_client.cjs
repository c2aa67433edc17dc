// Does what its standard input lists, with OpenAI's npm SDK, and tells as JSON what the SDK gave or raised.

const { OpenAI } = require('openai');
const { run, told } = require('./told.cjs');

const messages = [{ role: 'user', content: 'hello' }];

function call(api, step, options) {
  const more = { ...step.more };
  if (step.stream) more.stream = true;
  if (step.usage) more.stream_options = { include_usage: true };
  switch (step.call) {
    case 'chat':
      return api.chat.completions.create({ model: 'scripted', messages, ...more }, options);
    case 'completions':
      return api.completions.create({ model: 'scripted', prompt: 'hello', ...more }, options);
    case 'responses':
      return api.responses.create({ model: 'scripted', input: 'hello', ...more }, options);
    case 'embeddings':
      return api.embeddings.create({ model: 'scripted', input: 'hello', encoding_format: 'float' }, options);
    case 'images':
      return api.images.generate({ model: 'scripted', prompt: 'a cat' }, options);
    case 'models':
      return api.models.list(options);
  }
}

run((url, step) => {
  const api = new OpenAI({ baseURL: `${url}/v1`, apiKey: step.key, timeout: 20_000 });
  return told(step, (options) => call(api, step, options), (error) => [error.type, error.code]);
});
