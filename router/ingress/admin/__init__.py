"""What may an operator ask of a running router, and change in it, over HTTP?

Each file adds routes to the front door. What changes something takes JSON and says so in its content type: a page in a
browser cannot send that to another origin unasked.
"""
