"""Import and check of a user's posts, and what an audit reads of them. (Intake bias, a dial: `world.pipelines`.)"""
