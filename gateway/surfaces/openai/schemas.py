"""The bodies of the catalogue, for the OpenAPI schema."""

from __future__ import annotations

from rest_framework import serializers


class Model(serializers.Serializer):  # type: ignore[type-arg]
    id = serializers.CharField()
    object = serializers.ChoiceField(["model"])
    created = serializers.IntegerField(help_text="Unix seconds.")
    owned_by = serializers.CharField()
    image = serializers.BooleanField()
    vision = serializers.BooleanField()
    audio = serializers.BooleanField()
    video = serializers.BooleanField()
    tools = serializers.BooleanField()
    provider = serializers.BooleanField(help_text="True when the id is a provider's name.")
    context_length = serializers.IntegerField(required=False)


class ModelList(serializers.Serializer):  # type: ignore[type-arg]
    object = serializers.ChoiceField(["list"])
    data = Model(many=True)  # type: ignore[assignment]


class ProviderSummary(serializers.Serializer):  # type: ignore[type-arg]
    id = serializers.CharField()
    object = serializers.ChoiceField(["provider"])
    created = serializers.IntegerField()
    provider = serializers.CharField()
    label = serializers.CharField()  # type: ignore[assignment]
    url = serializers.CharField(help_text="The provider's own page, or empty.")
    models = serializers.ListField(child=serializers.CharField())
    image_models = serializers.ListField(child=serializers.CharField())
    vision_models = serializers.ListField(child=serializers.CharField())
    working = serializers.BooleanField()
    auth = serializers.BooleanField(help_text="True when the provider needs a credential.")


class Provider(ProviderSummary):
    stream = serializers.BooleanField()
    description = serializers.CharField()
    params = serializers.ListField(child=serializers.CharField())


class ProviderList(serializers.Serializer):  # type: ignore[type-arg]
    object = serializers.ChoiceField(["list"])
    data = ProviderSummary(many=True)  # type: ignore[assignment]
