"""Signs a delivery with Stripe's own SDK: body on stdin, secret and timestamp as arguments, the header on stdout."""

import sys

import stripe

secret, timestamp = sys.argv[1], int(sys.argv[2])
body = sys.stdin.buffer.read().decode("utf-8")
header = stripe.WebhookSignature.generate_signature_header(body, secret, timestamp)
stripe.Webhook.construct_event(body, header, secret, tolerance=None)
sys.stdout.write(header)
