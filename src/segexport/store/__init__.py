"""What is remembered: jobs, and the events that their transitions caused."""
