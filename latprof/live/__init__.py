"""What a terminal shows while a run goes: read from the files the run writes anyway, drawn in a thread that stands back."""
