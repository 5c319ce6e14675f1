"""Everything that can be set, by sections; `settings` says where it is read from."""

from segexport.settings.client import ClientSettings as ClientSettings
from segexport.settings.exports import MEMORY_PER_PIECE as MEMORY_PER_PIECE
from segexport.settings.exports import ExportSettings as ExportSettings
from segexport.settings.exports import S3Settings as S3Settings
from segexport.settings.exports import SparkSettings as SparkSettings
from segexport.settings.http import S3 as S3
from segexport.settings.http import ApplicationSettings as ApplicationSettings
from segexport.settings.http import HttpSettings as HttpSettings
from segexport.settings.http import PinpointSettings as PinpointSettings
from segexport.settings.http import TokenSettings as TokenSettings
from segexport.settings.kafka import EventSettings as EventSettings
from segexport.settings.kafka import KafkaSettings as KafkaSettings
from segexport.settings.settings import Settings as Settings
from segexport.settings.settings import load_settings as load_settings
