"""An execution module of one's own. Put it into ``_modules`` under the master's file_roots."""


def do_something():
    """Do something and tell the master when it is finished.

    CLI example: ``reactor cmd '*' my_custom_module.do_something``
    """
    # ... here it is done ...
    return __salt__["event.send"](
        "myco/my_custom_module/finished",
        {"finished": True, "message": "The something is finished!"},
    )
