"""This machine as a runtime: releases side by side, replicas as processes under the one supervisor."""
