"""Users and groups in the admin: staff look after ordinary people, superusers alone after staff and rights."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.models import Group, User
from django.http import HttpRequest
from django.template.defaultfilters import filesizeformat

from gateway.models import UserLimits
from media.models import Quota
from media.store import usage_of

RIGHTS = ("is_staff", "is_superuser", "groups", "user_permissions")

admin.site.unregister((User, Group))


def is_superuser(request: HttpRequest) -> bool:
    return bool(getattr(request.user, "is_superuser", False))


class UserLimitsInline(admin.StackedInline):  # type: ignore[type-arg]
    model = UserLimits
    can_delete = False
    verbose_name = "Limits of all keys and sessions together"
    fields = (("requests_per_minute", "tokens_per_minute", "max_streams"),)


class QuotaInline(admin.StackedInline):  # type: ignore[type-arg]
    """How much the user may keep, beside how much there is."""

    model = Quota
    can_delete = False
    verbose_name = "Files"
    fields = (("max_bytes", "max_files"), "used")
    readonly_fields = ("used",)

    @admin.display(description="Used now")
    def used(self, quota: Quota) -> str:
        size, count = usage_of(quota.user_id)
        return f"{filesizeformat(size)} in {count:,} file{'' if count == 1 else 's'}"


@admin.register(User)
class GatewayUserAdmin(UserAdmin):  # type: ignore[type-arg]
    # Apps above this one add theirs.
    inlines: ClassVar[tuple[type[admin.StackedInline[Any, Any]], ...]] = (UserLimitsInline, QuotaInline)

    def get_inlines(self, request: HttpRequest, obj: Any) -> Any:
        return self.inlines if obj else ()

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_change_permission(request, obj) and self._reaches(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_delete_permission(request, obj) and self._reaches(request, obj)

    def _reaches(self, request: HttpRequest, user: User | None) -> bool:
        """Who sets another's password has that one's rights, so none may reach above their own."""
        return user is None or is_superuser(request) or not (user.is_staff or user.is_superuser)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        fixed = super().get_readonly_fields(request, obj)
        return fixed if is_superuser(request) else (*fixed, *RIGHTS)


@admin.register(Group)
class GatewayGroupAdmin(GroupAdmin):
    """A group is a bundle of rights: who changes one grants them, to themselves too."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return is_superuser(request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return is_superuser(request)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return is_superuser(request)
