"""A renderer for requests of strangers."""

from __future__ import annotations

from t2v_core.models.catalogue import find_model
from t2v_core.models.layouts import ModelFolder
from t2v_core.models.lora.find import LoraFile
from t2v_core.models.lora.find import find as find_lora
from t2v_core.rendering.local import LocalRenderer


class NamedModelsRenderer(LocalRenderer):
    """Takes the models and LoRAs that are offered, by name: a path on this machine is no name."""

    def _find(self, name: str) -> ModelFolder:
        return find_model(name, self._host.models_folders, paths=False)

    def _find_lora(self, name: str) -> LoraFile:
        return find_lora(name, self._host.models_folders, paths=False)
