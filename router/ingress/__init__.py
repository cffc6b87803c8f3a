"""Who talks to us?"""
