"""The report page: what it shows is made here in Python, how it is shown stands in the scripts beside it."""
