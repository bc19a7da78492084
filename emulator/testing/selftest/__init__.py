"""The self-test of a bench: is the link that is commanded the link that independent tools measure on this machine?"""
