"""What is done to disks: each verb is a pure function from facts to a plan."""
