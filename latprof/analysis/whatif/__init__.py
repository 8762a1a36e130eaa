"""What a change would do to a recorded run: its record, the model made of it, replays, and the answer."""
