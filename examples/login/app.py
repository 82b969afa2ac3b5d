"""Logins in the memory of one pod: Django's sessions in Django's local cache."""

import os
import secrets

import uvicorn
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpResponse
from django.middleware.csrf import get_token
from django.shortcuts import redirect
from django.urls import path
from django.utils.html import escape

POD = os.environ.get("POD_NAME", "pod")

settings.configure(
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    SECRET_KEY=secrets.token_hex(),  # a pod's own: no session outlives it
    SESSION_ENGINE="django.contrib.sessions.backends.cache",  # the default cache is the process's memory
    MIDDLEWARE=[
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
    ],
)


def login(request):
    """Anybody may log in, as in any good demonstration."""
    if request.method == "POST":
        request.session.cycle_key()  # no session that began before the login outlives it
        request.session["name"] = request.POST["name"]
        return redirect("/")
    lost = request.headers.get("X-Session-Lost", "")
    token = f'<input type="hidden" name="csrfmiddlewaretoken" value="{get_token(request)}">'
    form = f'<form method="post">{token}<input name="name"><button>Log in</button></form>'
    return HttpResponse(f"<p>Please log in. {escape(lost)}</p>{form}")


def home(request):
    """Counts a visitor's visits."""
    if "name" not in request.session:
        return redirect("/login")
    request.session["visits"] = request.session.get("visits", 0) + 1
    return HttpResponse(f"{escape(request.session['name'])}, visit {request.session['visits']} at {POD}")


def logout(request):
    request.session.flush()
    return redirect("/login")


urlpatterns = [path("", home), path("login", login), path("logout", logout)]
app = get_asgi_application()

if __name__ == "__main__":
    uvicorn.run(app, host="0.0.0.0", port=int(os.environ.get("PORT", "8000")))
