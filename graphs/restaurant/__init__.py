"""The Copper Ladle, a restaurant on the phone: tables, food to take away, and the payment for it."""
