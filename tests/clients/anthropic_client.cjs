// Does what its standard input lists, with Anthropic's npm SDK, and tells as JSON what the SDK gave or raised.

const { Anthropic } = require('@anthropic-ai/sdk');
const { run, told } = require('./told.cjs');

const messages = [{ role: 'user', content: 'hello' }];

run((url, step) => {
  const api = new Anthropic({ baseURL: url, apiKey: step.key, timeout: 20_000 });
  const stream = step.stream ?? false;
  const call = (options) =>
    api.messages.create({ model: 'scripted', max_tokens: 100, messages, stream, ...step.more }, options);
  return told(step, call, ({ error }) => [error?.error?.type, error?.error?.code]);
});
