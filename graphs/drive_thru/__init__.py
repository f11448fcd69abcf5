"""Paper Kite Burgers, a drive-thru: one attendant who takes orders from a menu, and shows the cart."""
