"""Work on a whole suite that needs every floor below."""
