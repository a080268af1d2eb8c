"""Finance: for who holds finance.payer, with a second factor not older than 300 seconds; the service asks for both.

Its API (payments.py) asks for more before a payment is approved: a sign-in of the last two minutes.
"""

from deploy.demo.apps.payments import Payments
from deploy.demo.apps.portal import build, serve

if __name__ == "__main__":
    serve(
        build({"ar": "الشؤون المالية", "fr": "Finances", "en": "Finance"}, "finance", "#6b4a1f", Payments())
    )
