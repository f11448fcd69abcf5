"""One turn: what the front end says, what the nodes say, and the record of both."""
