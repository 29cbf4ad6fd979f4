"""The rules of each wire format, as its clients enforce them."""
