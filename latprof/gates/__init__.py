"""What runs are held against: budgets that people promise, baselines of good runs, and the gate that says whether they keep to them."""
