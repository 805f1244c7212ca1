"""A user's own network and images: everything between the outside world and `odinlib.odin`."""
