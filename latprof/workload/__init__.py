"""What is asked, without times: sessions of turns, and prompts of exact token length."""
