"""Pure queues: multi-server stations and the event heap. They hold no clock and await nothing; time comes in as an argument."""
