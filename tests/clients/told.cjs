// What the two npm clients have in common: the list on standard input, and how an outcome is told.

async function told(step, call, kindOf) {
  try {
    const { data, response } = await call({ headers: step.headers ?? {} }).withResponse();
    let answer = data;
    if (step.stream) {
      answer = [];
      for await (const event of data) answer.push(event);
    } else if (step.call === 'models') {
      answer = { object: 'list', data: data.data };
    }
    return { answer, headers: Object.fromEntries(response.headers) };
  } catch (error) {
    if (error.status === undefined) return { raised: error.constructor.name, message: error.message };
    const [type, code] = kindOf(error);
    return {
      raised: error.constructor.name,
      status: error.status,
      message: error.message,
      type,
      code,
      headers: Object.fromEntries(error.headers),
    };
  }
}

async function run(outcome) {
  const chunks = [];
  for await (const chunk of process.stdin) chunks.push(chunk);
  const { url, steps } = JSON.parse(Buffer.concat(chunks));
  const outcomes = [];
  for (const step of steps) outcomes.push(await outcome(url, step));
  process.stdout.write(JSON.stringify(outcomes));
}

module.exports = { run, told };
