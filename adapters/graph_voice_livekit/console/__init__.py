"""What people start by hand: the commands `talk` and `demo`, and `hear` for notebooks."""
