"""What every page is drawn with: HTML from data, by functions without any client. (pure)"""
