// Signs a delivery with Stripe's npm SDK: body on standard input, secret and timestamp as arguments, the header on standard output.

const Stripe = require('stripe');

const [secret, timestamp] = process.argv.slice(2);
const payload = require('node:fs').readFileSync(0, 'utf8');
const { webhooks } = new Stripe('sk_test_unused');
const header = webhooks.generateTestHeaderString({ payload, secret, timestamp: Number(timestamp) });
webhooks.constructEvent(payload, header, secret);
process.stdout.write(header);
