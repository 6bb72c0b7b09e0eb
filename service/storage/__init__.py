"""Where state is kept: metadata in SQL, model files in a folder by their digest."""
