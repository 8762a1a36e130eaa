"""Between the plan and the simulator, and between the simulator and the run folder: sessions in, rows out."""
