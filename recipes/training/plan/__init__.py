"""What a recipe will take, said before anything is downloaded and without torch: memory, time, cost."""
