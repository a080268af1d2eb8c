"""Correspondence: for any staff role of the person's office; the service decides who gets in."""

from deploy.demo.apps.portal import build, serve

if __name__ == "__main__":
    serve(
        build(
            {"ar": "المراسلات", "fr": "Correspondance", "en": "Correspondence"}, "correspondence", "#1d5b79"
        )
    )
