"""A Sphinx extension that keeps the built pages free of anything they would load from another machine.

Jupyter Book always adds sphinx-thebe, whose inline script names a file at a CDN even with ``thebe: false``.
"""


def _drop_thebe(app, pagename, templatename, context, doctree):
    def is_thebe(script):
        return "thebe" in str(getattr(script, "filename", script) or "").lower() or "THEBE_JS_URL" in str(
            getattr(script, "attributes", {}).get("body", "")
        )

    context["script_files"] = [script for script in context.get("script_files", []) if not is_thebe(script)]


def setup(app):
    """Register the hook; it changes one page at a time, so reading and writing may run in parallel."""
    app.connect("html-page-context", _drop_thebe, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
