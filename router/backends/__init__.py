"""Whom do we call?"""
