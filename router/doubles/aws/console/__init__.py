"""How is a double that runs by itself set up, looked into and told what to do?"""
