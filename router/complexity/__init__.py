"""How hard is this request?"""
