"""Subscribes a customer at localstripe with Stripe's own SDK, as a shop would, and ends the subscription again when asked to.

Arguments: the port, then `subscribe USER PRICE` or `cancel SUBSCRIPTION`. The subscription's id goes to standard output.
"""

import sys

import stripe

port, deed, *rest = sys.argv[1:]
api = stripe.StripeClient("sk_test_localstripe", base_addresses={"api": f"http://127.0.0.1:{port}"}).v1

if deed == "cancel":
    api.subscriptions.cancel(rest[0])
    print(rest[0])
    sys.exit()

user, price = rest
# Prices came after plans, and localstripe has only these.
product = api.products.create({"name": "Pro"})
api.plans.create({"id": price, "amount": 2000, "currency": "usd", "interval": "month", "product": product.id})
customer = api.customers.create({"email": "someone@example.com"})
card = {"number": "4242424242424242", "exp_month": 12, "exp_year": 2034, "cvc": "123"}
method = api.payment_methods.create({"type": "card", "card": card})
api.payment_methods.attach(method.id, {"customer": customer.id})
api.customers.update(customer.id, {"invoice_settings": {"default_payment_method": method.id}})
subscription = api.subscriptions.create(
    {"customer": customer.id, "items": [{"plan": price}], "metadata": {"user_id": user}}
)
print(subscription.id)
