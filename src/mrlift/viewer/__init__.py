"""The browser viewer: a page on this machine that shows series side by side and upscales them.

`server` binds a socket to loopback and runs `app`; `access` decides who may ask; `tabs` holds what
belongs to one browser tab and removes it when the tab is closed; `uploads` takes files in, `work`
runs one job at a time, `cases` holds a series with its result and the images that the page shows.
The page itself is in `viewer/` of the repository; `make viewer` and the building of a wheel put it
into `assets/`, from where `files` sends it.
"""
