"""Documents written by hand, as oVirt's engine writes them."""

from typing import Final

VM: Final = "5e5a0fb0-1111-4b8e-9c53-000000000001"
DISK: Final = "5e5a0fb0-2222-4b8e-9c53-000000000001"
BASE: Final = "5e5a0fb0-3333-4b8e-9c53-000000000001"
LEAF: Final = "5e5a0fb0-3333-4b8e-9c53-000000000002"
LUN: Final = "5e5a0fb0-2222-4b8e-9c53-00000000000f"
NIC: Final = "5e5a0fb0-4444-4b8e-9c53-000000000001"
ACTIVE: Final = "5e5a0fb0-5555-4b8e-9c53-000000000001"
OLD: Final = "5e5a0fb0-5555-4b8e-9c53-000000000002"
STORAGE_DOMAIN: Final = "5e5a0fb0-6666-4b8e-9c53-000000000001"
POOL: Final = "5e5a0fb0-7777-4b8e-9c53-000000000001"
NOTHING: Final = "00000000-0000-0000-0000-000000000000"

DOCUMENT: Final = f"""\
<?xml version="1.0" encoding="UTF-8"?>
<ovf:Envelope xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1/"
 xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData"
 xmlns:vssd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData"
 xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" ovf:version="4.4.10.0">
 <References>
  <File ovf:href="{DISK}/{BASE}" ovf:id="{BASE}" ovf:size="3221225472"
   ovf:description="Active VM" ovf:disk_storage_type="IMAGE" ovf:cinder_volume_type=""/>
  <File ovf:href="{DISK}/{LEAF}" ovf:id="{LEAF}" ovf:size="196688"
   ovf:description="Active VM" ovf:disk_storage_type="IMAGE" ovf:cinder_volume_type=""/>
  <File ovf:id="{LUN}" ovf:href="{LUN}" ovf:disk_storage_type="LUN"/>
  <Nic ovf:id="{NIC}"/>
 </References>
 <NetworkSection><Info>List of networks</Info>
  <Network ovf:name="ovirtmgmt"/></NetworkSection>
 <Section xsi:type="ovf:DiskSection_Type"><Info>List of Virtual Disks</Info>
  <Disk ovf:diskId="{BASE}" ovf:size="10" ovf:actual_size="3"
   ovf:vm_snapshot_id="{OLD}" ovf:parentRef="" ovf:fileRef="{DISK}/{BASE}"
   ovf:format="http://www.vmware.com/specifications/vmdk.html#sparse"
   ovf:volume-format="RAW" ovf:volume-type="Preallocated"
   ovf:disk-interface="VirtIO_SCSI" ovf:read-only="false" ovf:shareable="false"
   ovf:boot="true" ovf:pass-discard="true" ovf:disk-alias="web root"
   ovf:disk-description="the system" ovf:wipe-after-delete="true"/>
  <Disk ovf:diskId="{LEAF}" ovf:size="10" ovf:actual_size="1"
   ovf:vm_snapshot_id="{ACTIVE}" ovf:parentRef="{DISK}/{BASE}"
   ovf:fileRef="{DISK}/{LEAF}"
   ovf:format="http://www.gnome.org/~markmc/qcow-image-format.html"
   ovf:volume-format="COW" ovf:volume-type="Sparse"
   ovf:disk-interface="VirtIO_SCSI" ovf:read-only="false" ovf:shareable="false"
   ovf:boot="true" ovf:pass-discard="true" ovf:disk-alias="web root"
   ovf:disk-description="the system" ovf:wipe-after-delete="true"/>
  <Disk ovf:diskId="{LUN}" ovf:disk-alias="raw lun" ovf:lun_id="3600140"
   ovf:fileRef="{LUN}"><Connection ovf:iqn="iqn.2020-01.org.example:1"/></Disk>
 </Section>
 <Content ovf:id="out" xsi:type="ovf:VirtualSystem_Type">
  <Name>web</Name>
  <Description>serves pages &amp; more</Description>
  <Comment>mind the cat</Comment>
  <CreationDate>2024/02/29 23:59:01</CreationDate>
  <ExportDate>2024/03/01 00:00:00</ExportDate>
  <DeleteProtected>true</DeleteProtected>
  <TimeZone>Etc/GMT</TimeZone>
  <Generation>17</Generation>
  <ClusterCompatibilityVersion>4.6</ClusterCompatibilityVersion>
  <VmType>1</VmType>
  <MinAllocatedMem>1024</MinAllocatedMem>
  <CustomEmulatedMachine>pc-q35-rhel8.4.0</CustomEmulatedMachine>
  <BiosType>4</BiosType>
  <CustomCpuName>Skylake-Client</CustomCpuName>
  <PredefinedProperties>sap_agent=true;hugepages=2048</PredefinedProperties>
  <UserDefinedProperties>smbios={{'serial':'a=1 &amp; 2'}};PATH=/tmp;
   floppy=</UserDefinedProperties>
  <UseHostCpu>false</UseHostCpu>
  <MaxMemorySizeMb>8192</MaxMemorySizeMb>
  <VmInit ovf:hostname="web" ovf:timeZone="Etc/GMT"/>
  <TemplateId>{NOTHING}</TemplateId>
  <TemplateName>Blank</TemplateName>
  <Origin>3</Origin>
  <DefaultDisplayType>2</DefaultDisplayType>
  <Section ovf:id="{VM}" ovf:required="false"
   xsi:type="ovf:OperatingSystemSection_Type">
   <Info>Guest Operating System</Info><Description>rhel_8x64</Description></Section>
  <Section xsi:type="ovf:AffinityGroupsSection_Type">
   <AffinityGroup ovf:name="apart"/></Section>
  <Section xsi:type="ovf:VirtualHardwareSection_Type">
   <Info>4 CPU, 2048 Memory</Info>
   <System><vssd:VirtualSystemType>ENGINE 4.4.10.0</vssd:VirtualSystemType></System>
   <Item>
    <rasd:Caption>4 virtual cpu</rasd:Caption>
    <rasd:InstanceId>1</rasd:InstanceId><rasd:ResourceType>3</rasd:ResourceType>
    <rasd:num_of_sockets>2</rasd:num_of_sockets>
    <rasd:cpu_per_socket>2</rasd:cpu_per_socket>
    <rasd:threads_per_cpu>1</rasd:threads_per_cpu>
    <rasd:max_num_of_vcpus>16</rasd:max_num_of_vcpus>
    <rasd:VirtualQuantity>4</rasd:VirtualQuantity>
   </Item>
   <Item>
    <rasd:Caption>2048 MB of memory</rasd:Caption>
    <rasd:InstanceId>2</rasd:InstanceId><rasd:ResourceType>4</rasd:ResourceType>
    <rasd:AllocationUnits>MegaBytes</rasd:AllocationUnits>
    <rasd:VirtualQuantity>2048</rasd:VirtualQuantity>
   </Item>
   <Item>
    <rasd:Caption>web root</rasd:Caption>
    <rasd:InstanceId>{LEAF}</rasd:InstanceId>
    <rasd:ResourceType>17</rasd:ResourceType>
    <rasd:HostResource>{DISK}/{LEAF}</rasd:HostResource>
    <rasd:Parent>{BASE}</rasd:Parent>
    <rasd:Template>{NOTHING}</rasd:Template>
    <rasd:ApplicationList>kernel-4.18</rasd:ApplicationList>
    <rasd:StorageId>{STORAGE_DOMAIN}</rasd:StorageId>
    <rasd:StoragePoolId>{POOL}</rasd:StoragePoolId>
    <rasd:CreationDate>2024/02/29 23:59:02</rasd:CreationDate>
    <Type>disk</Type><Device>disk</Device>
    <rasd:Address>{{type=drive, unit=0}}</rasd:Address>
    <BootOrder>1</BootOrder><IsPlugged>true</IsPlugged><Alias>ua-1</Alias>
    <CustomProperties>diskunmap=on</CustomProperties>
   </Item>
   <Item>
    <rasd:Caption>Ethernet adapter on ovirtmgmt</rasd:Caption>
    <rasd:InstanceId>{NIC}</rasd:InstanceId>
    <rasd:ResourceType>10</rasd:ResourceType>
    <rasd:OtherResourceType>gold</rasd:OtherResourceType>
    <rasd:ResourceSubType>3</rasd:ResourceSubType>
    <rasd:Connection>ovirtmgmt</rasd:Connection>
    <rasd:Linked>true</rasd:Linked>
    <rasd:Name>nic1</rasd:Name><rasd:ElementName>nic1</rasd:ElementName>
    <rasd:MACAddress>56:6F:00:00:00:01</rasd:MACAddress>
    <rasd:speed>10000</rasd:speed>
    <Type>interface</Type><Device>bridge</Device><IsPlugged>true</IsPlugged>
    <CustomProperties>macspoof=true;vmfex=gold</CustomProperties>
   </Item>
   <Item>
    <rasd:ResourceType>0</rasd:ResourceType>
    <rasd:InstanceId>5e5a0fb0-8888-4b8e-9c53-000000000001</rasd:InstanceId>
    <Type>balloon</Type><Device>memballoon</Device>
   </Item>
  </Section>
  <Section xsi:type="ovf:SnapshotsSection_Type">
   <Snapshot ovf:id="{ACTIVE}"><Type>ACTIVE</Type>
    <Description>Active VM</Description>
    <CreationDate>2024/02/29 23:59:01</CreationDate></Snapshot>
   <Snapshot ovf:id="{OLD}"><Type>REGULAR</Type><Description>before</Description>
    <CreationDate>2024/03/01 10:00:00</CreationDate>
    <Memory>{STORAGE_DOMAIN},{POOL},{DISK},{BASE},{DISK},{LEAF}</Memory>
    <VmConfiguration>PG92Zi8+</VmConfiguration></Snapshot>
  </Section>
 </Content>
</ovf:Envelope>
"""
