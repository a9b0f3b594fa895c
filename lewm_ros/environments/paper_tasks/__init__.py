"""The paper's four tasks: what is put around stable-worldmodel's environments, and when a goal counts as reached."""
