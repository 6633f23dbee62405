"""What the services of Nord City have in common. Found through PYTHONPATH, or by the path each main.py adds."""
