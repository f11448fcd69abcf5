"""The Copper Ladle, a restaurant on the phone: table reservations, takeaway orders, and payment."""
