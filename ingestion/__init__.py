"""How do app events become features, online and in the lake?"""
