"""The demo company: people, grants and the story that shows the main job."""
