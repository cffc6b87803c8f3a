"""Are we keeping our promises?"""
