"""Import and check of posts, and what an audit reads of them."""
