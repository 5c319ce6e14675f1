"""What an export job is: its request, its life, its outcome. No I/O."""
