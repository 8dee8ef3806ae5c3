"""How is one person forgotten, everywhere, with a receipt?"""
