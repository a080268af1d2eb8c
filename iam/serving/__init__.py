"""The server: `python -m iam.serving`. One event loop a worker reads HTTP and answers at once what memory knows;
everything else is answered by Django in threads. Why our own, and what it will not do: docs/adr/0046.
"""
