"""A renderer for requests of strangers."""

from __future__ import annotations

from t2v_core.models.catalogue import find_model
from t2v_core.rendering.local import LocalRenderer
from t2v_core.request import GenerationRequest


class NamedModelsRenderer(LocalRenderer):
    """Takes the models that are offered, by name: a path on this machine is no model's name."""

    def resolve(self, request: GenerationRequest) -> GenerationRequest:
        """See `Renderer.resolve`.

        Raises:
            ModelNotFoundError: also for a path that leads to a model.
        """
        model = find_model(request.model, self._host.models_folders, paths=False)
        return super().resolve(request.with_field("model", model.name))
