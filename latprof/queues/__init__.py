"""Pure multi-server stations and the event heap."""
