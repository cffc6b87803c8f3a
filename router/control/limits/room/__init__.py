"""What is there room for on a server? A bound on tokens and one on calls, seen from what it refuses, from answers that
stand still, from first tokens that come late, and from what it tells of its memory. A limit keeps tokens quick; these
keep prompts from waiting where we cannot put them elsewhere.
"""
